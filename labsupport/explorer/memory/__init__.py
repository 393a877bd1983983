"""What clients share in the memory of their process, as far as code and objects tell."""
