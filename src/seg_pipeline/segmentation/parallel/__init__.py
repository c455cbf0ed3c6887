"""Process many images at once: in threads, in processes on this machine, or on a cluster."""
