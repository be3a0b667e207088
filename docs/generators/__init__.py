"""What writes the reference pages from the code: `cli`, `keys`, `api` while Sphinx builds, `tables` with cog."""
