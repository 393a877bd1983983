"""What the labs of the two queues share: the experiment with workers that are killed."""
