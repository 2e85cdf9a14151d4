"""Further languages for a data set: translations, translations back, and what these say of the first."""
