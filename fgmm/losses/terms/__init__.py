"""Terms of an objective, one a file, found by ``config.objective.terms.*.name``."""
