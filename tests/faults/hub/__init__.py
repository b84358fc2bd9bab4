"""Push and pull when the Hub, the network, the disk or a kill goes against them; both sides are looked at."""
