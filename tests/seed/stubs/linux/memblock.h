#ifndef SEED_LINUX_MEMBLOCK_H
#define SEED_LINUX_MEMBLOCK_H

#include "../machine.h"

struct memblock_region {
	phys_addr_t base;
	phys_addr_t size;
};

struct memblock_type {
	unsigned long cnt;
	unsigned long max;
	phys_addr_t total_size;
	struct memblock_region *regions;
	char *name;
};

phys_addr_t memblock_phys_alloc(phys_addr_t size, phys_addr_t align);

/* The number-th piece of physmem outside type's one region; 0 when there are no more. start, end may be NULL. */
int physmem_piece(u64 number, const struct memblock_type *type, phys_addr_t *start, phys_addr_t *end);

#define for_each_physmem_range(i, type, start, end) for (i = 0; physmem_piece(i, type, start, end); i++)

#endif
