"""What stands for time, chance and the machine while clients are explored, and how it is put in place."""
