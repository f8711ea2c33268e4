"""How turns are asked for and told: a folder for each protocol."""
