"""One module a command; each has `main(command, arguments) -> exit code` and imports what it needs when called."""
