#ifndef SEED_ASM_IPL_H
#define SEED_ASM_IPL_H

#include "../machine.h"

enum ipl_type { IPL_TYPE_OTHER, IPL_TYPE_FCP_DUMP };

static struct {
	enum ipl_type type;
} ipl_info;

/* asm/setup.h: where the crashed kernel's crashkernel area was, 0 when this is not kdump; and the vector facility. */
static unsigned long oldmem_base, oldmem_size;
static int machine_has_vx;

#define OLDMEM_BASE oldmem_base
#define OLDMEM_SIZE oldmem_size
#define MACHINE_HAS_VX machine_has_vx

#endif
