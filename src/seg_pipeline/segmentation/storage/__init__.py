"""Files that are written whole or not at all, locks on files, and workers that end with their parent."""
