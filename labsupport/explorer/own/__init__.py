"""What explored code makes for itself: its Redis clients and pools, its event loop."""
