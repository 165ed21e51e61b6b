"""Terms of an objective, one per file, found by ``config.objective.terms.*.name``."""
