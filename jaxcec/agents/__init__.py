"""Agents: DDPG and the digital twin that assists it, PPO and DQN, trained in one compiled loop."""
