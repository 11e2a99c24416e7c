#ifndef SEED_LINUX_MM_H
#define SEED_LINUX_MM_H

#include "../machine.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define offset_in_page(pointer) ((unsigned long)(pointer) & (PAGE_SIZE - 1))
#define __pa(pointer) ((unsigned long)(pointer))

/* Destinations are host memory: never vmalloc space, so that the text's lra instruction is never reached. */
#define is_vmalloc_or_module_addr(pointer) ((void)(pointer), 0)

typedef struct {
	unsigned long pgprot;
} pgprot_t;

struct vm_area_struct;

int memcpy_real(void *dest, void *src, size_t count);

/* Only mmap and user reads of the vmcore body use these; the header is built without them. */
#define remap_pfn_range(vma, from, pfn, size, prot) (machine_stopped("remap_pfn_range"), 0)
#define copy_to_user_real(dest, src, count) (machine_stopped("copy_to_user_real"), 0)

#endif
