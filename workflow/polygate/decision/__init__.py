"""What a model can be made to decide: gates, their calibration by few examples, and the cards they carry."""
