"""What is declared, checked and compiled."""
