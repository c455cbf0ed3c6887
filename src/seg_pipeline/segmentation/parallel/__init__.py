"""Work on many images at once: in threads, in processes of this machine, or on a cluster."""
