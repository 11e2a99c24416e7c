#ifndef SEED_LINUX_SLAB_H
#define SEED_LINUX_SLAB_H

#include "../machine.h"

/* Zeroed memory out of an arena at a fixed address (harness.c says why), NULL when that is full. */
void *kzalloc(size_t size, int flags);
void kfree(void *memory);

#endif
