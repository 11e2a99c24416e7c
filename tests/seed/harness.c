/*
 * Runs elfcorehdr_alloc() of the kernel's own crash_dump.c on a described machine: description on stdin, the bytes of
 * the elfcorehdr on stdout. The kernel text is not part of this repository: kernel58.py writes it beside the
 * program as crash_dump.c, unchanged from its SPDX line on, and it is included as it is.
 *
 * Description: big endian 64-bit words (kernel58.py: _description writes them)
 *
 *     has_vx  OLDMEM_BASE  OLDMEM_SIZE  hsa_size  fcp_dump
 *     CPUs    each 512 bytes status (lowcore 0x1200..0x13ff), 512 bytes v0..v31; boot CPU first
 *     ranges  each start, end
 *     length of the os_info VMCOREINFO entry + 1, or 0 for none; its bytes
 *     pieces  of memory that is not zero: each hsa (0 or 1), address, length; its bytes
 */
#define _GNU_SOURCE
#include "machine.h"

#include <endian.h>
#include <sys/mman.h>

/*
 * The one thing no host but s390x can compile is `asm volatile("lra ...")`. mm.h says "not vmalloc" for every
 * address, so it cannot be reached: these two words make a trap of it, without a change to the text.
 */
#define asm
#define volatile(...) __builtin_trap()
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wscalar-storage-order"
#include "crash_dump.c"
#pragma GCC diagnostic pop
#undef asm
#undef volatile

_Static_assert(offsetof(struct save_area, todpreg) == 0x1e8 && sizeof(((struct save_area *)0)->todpreg) == 8 &&
		       sizeof(struct save_area) == 0x380,
	       "this is not the save area of 5.8");

#define STATUS_SIZE 512
#define VECTORS_SIZE 512

/* PT_NOTE's p_offset is a pointer into the header. At a fixed address the same machine gives the same bytes. */
#define ARENA 0x30000000UL
#define ARENA_SIZE (64UL << 20)

struct range {
	u64 start, end;
};

struct piece {
	u64 hsa, address, length;
	u8 *bytes;
};

static struct range *ranges;
static u64 range_count;
static struct piece *pieces;
static u64 piece_count;
static void *os_info_vmcoreinfo;
static u64 os_info_vmcoreinfo_size;
static size_t arena_used, arena_last;

void machine_stopped(const char *why)
{
	fprintf(stderr, "%s\n", why);
	exit(1);
}

/* --- what the stub headers promise ------------------------------------------------------------------------------ */

void *kzalloc(size_t size, int flags)
{
	size_t room = roundup(size ? size : 1, PAGE_SIZE);

	(void)flags;
	if (room > ARENA_SIZE - arena_used)
		return NULL;
	arena_last = arena_used;
	arena_used += room;
	return memset((void *)(ARENA + arena_last), 0, room);
}

/* Gives the last allocation back, so that the header starts at ARENA also after VMCOREINFO was looked at. */
void kfree(void *memory)
{
	if ((unsigned long)memory == ARENA + arena_last)
		arena_used = arena_last;
}

/* memblock does not clear what it hands out: a field that the text forgets to fill shows as 0xa5. */
phys_addr_t memblock_phys_alloc(phys_addr_t size, phys_addr_t align)
{
	void *memory = malloc(size);

	(void)align;
	if (memory)
		memset(memory, 0xa5, size);
	return (phys_addr_t)(unsigned long)memory;
}

int physmem_piece(u64 number, const struct memblock_type *type, phys_addr_t *start, phys_addr_t *end)
{
	u64 cut_start = type->regions->base, cut_end = cut_start + type->regions->size;

	for (u64 i = 0; i < range_count; i++) {
		struct range outside[2] = { ranges[i], ranges[i] };
		int count = 1;

		if (cut_start < cut_end && cut_start < ranges[i].end && ranges[i].start < cut_end) {
			outside[0].end = cut_start;
			outside[1].start = cut_end;
			count = 2;
		}
		for (int j = 0; j < count; j++) {
			if (outside[j].start >= outside[j].end || number--)
				continue;
			if (start)
				*start = outside[j].start;
			if (end)
				*end = outside[j].end;
			return 1;
		}
	}
	return 0;
}

void *os_info_old_entry(int number, unsigned long *size)
{
	*size = os_info_vmcoreinfo_size;
	return number == OS_INFO_VMCOREINFO ? os_info_vmcoreinfo : NULL;
}

static void read_pieces(int hsa, u8 *dest, u64 address, size_t count)
{
	memset(dest, 0, count);
	for (u64 i = 0; i < piece_count; i++) {
		const struct piece *piece = &pieces[i];
		u64 start = piece->address > address ? piece->address : address;
		u64 end = min(piece->address + piece->length, address + count);

		if (piece->hsa == (u64)hsa && start < end)
			memcpy(dest + (start - address), piece->bytes + (start - piece->address), end - start);
	}
}

/*
 * get_vmcoreinfo_old() reads this one field straight into a pointer variable, whose order is the host's. Everything
 * else it reads is bytes or a big endian structure.
 */
static void load_pointer(void *dest, int is_vmcore_info, size_t count)
{
	u64 value;

	if (!is_vmcore_info || count != sizeof(value))
		return;
	memcpy(&value, dest, sizeof(value));
	value = be64toh(value);
	memcpy(dest, &value, sizeof(value));
}

/* Memory of this machine, from the dump kernel's view: [0, OLDMEM_SIZE) and the area at OLDMEM_BASE are swapped. */
int memcpy_real(void *dest, void *src, size_t count)
{
	u64 address = (u64)src;

	for (u64 i = 0; i < range_count; i++) {
		if (address < ranges[i].start || address >= ranges[i].end || count > ranges[i].end - address)
			continue;
		read_pieces(0, dest, address, count);
		load_pointer(dest, address == OLDMEM_BASE + offsetof(struct lowcore, vmcore_info), count);
		return 0;
	}
	return -EFAULT;
}

int memcpy_hsa_kernel(void *dest, unsigned long src, size_t count)
{
	if (src >= sclp.hsa_size || count > sclp.hsa_size - src)
		return -EINVAL;
	read_pieces(1, dest, src, count);
	load_pointer(dest, src == offsetof(struct lowcore, vmcore_info), count);
	return 0;
}

/* --- description in, header out --------------------------------------------------------------------------------- */

static void get_bytes(void *dest, size_t count)
{
	if (fread(dest, 1, count, stdin) != count)
		machine_stopped("harness: the description ends too early");
}

static u64 get_word(void)
{
	u64 word;

	get_bytes(&word, sizeof(word));
	return be64toh(word);
}

static void *get_memory(size_t count)
{
	void *memory = calloc(count ? count : 1, 1);

	if (!memory)
		machine_stopped("harness: out of memory");
	return memory;
}

/* smp_save_dump_cpus(): boot CPU at the list's head, the others behind, vectors only where the facility is there. */
static void get_cpus(void)
{
	struct lowcore *lowcore = get_memory(sizeof(*lowcore));
	__vector128 vectors[VECTORS_SIZE / sizeof(__vector128)];
	u64 count = get_word();

	for (u64 i = 0; i < count; i++) {
		struct save_area *area = save_area_alloc(i == 0);

		get_bytes((u8 *)lowcore + __LC_FPREGS_SAVE_AREA, STATUS_SIZE);
		get_bytes(vectors, sizeof(vectors));
		save_area_add_regs(area, (u8 *)lowcore + __LC_FPREGS_SAVE_AREA);
		if (MACHINE_HAS_VX)
			save_area_add_vxrs(area, vectors);
	}
	free(lowcore);
}

/* memblock keeps physmem rising and merges neighbours; the description is rising already. */
static void get_ranges(void)
{
	u64 count = get_word();

	ranges = get_memory(count * sizeof(*ranges));
	for (u64 i = 0; i < count; i++) {
		u64 start = get_word(), end = get_word();

		if (range_count && ranges[range_count - 1].end == start)
			ranges[range_count - 1].end = end;
		else
			ranges[range_count++] = (struct range){ start, end };
	}
}

static void get_os_info(void)
{
	u64 length = get_word();

	if (!length)
		return;
	os_info_vmcoreinfo_size = length - 1;
	os_info_vmcoreinfo = get_memory(os_info_vmcoreinfo_size);
	get_bytes(os_info_vmcoreinfo, os_info_vmcoreinfo_size);
}

static void get_pieces(void)
{
	piece_count = get_word();
	pieces = get_memory(piece_count * sizeof(*pieces));
	for (u64 i = 0; i < piece_count; i++) {
		pieces[i].hsa = get_word();
		pieces[i].address = get_word();
		pieces[i].length = get_word();
		pieces[i].bytes = get_memory(pieces[i].length);
		get_bytes(pieces[i].bytes, pieces[i].length);
	}
}

int main(void)
{
	void *arena = mmap((void *)ARENA, ARENA_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u64 position;
	char *header;
	int rc;

	if (arena != (void *)ARENA)
		machine_stopped("harness: no memory at the fixed address of the header");
	machine_has_vx = get_word() != 0;
	oldmem_base = get_word();
	oldmem_size = get_word();
	sclp.hsa_size = get_word();
	ipl_info.type = get_word() ? IPL_TYPE_FCP_DUMP : IPL_TYPE_OTHER;
	get_cpus();
	get_ranges();
	get_os_info();
	get_pieces();
	if (getchar() != EOF)
		machine_stopped("harness: the description goes on behind its end");

	rc = elfcorehdr_alloc(&elfcorehdr_addr, &elfcorehdr_size);
	if (rc) {
		fprintf(stderr, "elfcorehdr_alloc: %d\n", rc);
		return 1;
	}
	if (!elfcorehdr_size)
		return 0;
	if (elfcorehdr_addr != ARENA)
		machine_stopped("harness: the header is not at its fixed address");
	header = get_memory(elfcorehdr_size);
	position = elfcorehdr_addr;
	elfcorehdr_read(header, elfcorehdr_size, &position);
	if (fwrite(header, 1, elfcorehdr_size, stdout) != elfcorehdr_size || fflush(stdout))
		machine_stopped("harness: cannot write the header");
	return 0;
}
