"""Objects of a class, such as cells: matching them."""
