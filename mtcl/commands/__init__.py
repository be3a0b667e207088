"""One module per command. Each has `main(command, arguments) -> exit code` and imports its dependencies when called."""
