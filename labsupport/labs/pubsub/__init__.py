"""09 Pub/Sub: messages that were sent and never received."""

from labsupport.labs.pubsub.lost_messages import LostMessages

__all__ = ["LostMessages"]
