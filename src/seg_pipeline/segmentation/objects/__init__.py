"""Objects of a class, such as cells: label maps, gaps to learn, splitting, matching, measuring."""
