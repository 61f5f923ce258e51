"""One run, a search, a sweep, and what does them: this process, others, a cluster."""
