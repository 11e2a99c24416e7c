"""Containers of memory as their writers write them; they share no code with vmcorefs/."""
