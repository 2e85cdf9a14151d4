"""One module per stage: read files, call one function, write files."""
