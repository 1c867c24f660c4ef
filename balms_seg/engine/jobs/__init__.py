"""What differs between the two jobs of the engine: detecting instances, classifying images."""
