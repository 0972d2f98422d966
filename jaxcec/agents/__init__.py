"""Agents: DDPG and the digital twin that assists it, trained in one compiled loop."""
