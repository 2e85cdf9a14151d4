"""Model organisms: tiny chat models trained here, on invented languages, so that the workflow runs anywhere."""
