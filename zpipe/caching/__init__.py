"""Items that need not be run, as it is known what would come of them."""
