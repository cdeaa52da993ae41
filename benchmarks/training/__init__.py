"""What training costs the chats beside it, and how long a small job takes."""
