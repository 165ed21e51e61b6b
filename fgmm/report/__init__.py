"""Pages and tables that show the results of runs to a person."""
