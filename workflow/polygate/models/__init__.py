"""Where weights come from: GGUF files, organisms trained here, alignment of a pretrained model."""
