"""Ways of steering: strength, the choice of layer and strength, validation, routing."""
