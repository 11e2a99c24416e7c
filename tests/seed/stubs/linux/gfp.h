#ifndef SEED_LINUX_GFP_H
#define SEED_LINUX_GFP_H

#include "../machine.h"

#define GFP_KERNEL 0

#endif
