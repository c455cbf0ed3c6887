"""Objects of a class, such as cells: label maps, cores to learn, splitting, matching, measuring."""
