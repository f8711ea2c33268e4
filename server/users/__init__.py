"""What is kept of users, as the routes need it."""
