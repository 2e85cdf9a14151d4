"""Settings: their types, the check before any job, the documents and environments made from them."""
