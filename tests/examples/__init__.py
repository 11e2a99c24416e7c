"""The examples for kdump-utils and kdump-tools, run on crash folders as those leave them."""
