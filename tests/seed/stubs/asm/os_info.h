#ifndef SEED_ASM_OS_INFO_H
#define SEED_ASM_OS_INFO_H

#include "../machine.h"

#define OS_INFO_VMCOREINFO 0

/* The described VMCOREINFO where the machine is said to have it in os_info, else NULL. */
void *os_info_old_entry(int number, unsigned long *size);

#endif
