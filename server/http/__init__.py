"""HTTP: how a reply leaves and how its client is watched; what is said in it is the protocols' matter."""
