"""What a person calls beside the workflow. Each module has `configure(parser)` and `run(args)`, like a stage."""
