"""Jobs in stages: the outputs of one are the items of the next."""
