#ifndef SEED_ASM_OFFSETS_H
#define SEED_ASM_OFFSETS_H

#include "lowcore.h"

#define __LC_FPREGS_SAVE_AREA offsetof(struct lowcore, floating_pt_save_area)

#endif
