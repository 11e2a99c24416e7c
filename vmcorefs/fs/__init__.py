"""The only folder that knows FUSE. It sees a Tree of named read functions, never an s390 word."""
