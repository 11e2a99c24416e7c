#ifndef SEED_LINUX_KERNEL_H
#define SEED_LINUX_KERNEL_H

#include "../machine.h"

#define min(a, b) ((a) < (b) ? (a) : (b))
#define roundup(value, step) ((((value) + (step) - 1) / (step)) * (step))

/* Doubly linked list, kernel words. */
struct list_head {
	struct list_head *next, *prev;
};

#define LIST_HEAD(name) struct list_head name = { &name, &name }

static inline void list_insert(struct list_head *new, struct list_head *prev, struct list_head *next)
{
	new->prev = prev;
	new->next = next;
	prev->next = new;
	next->prev = new;
}

static inline void list_add(struct list_head *new, struct list_head *head)
{
	list_insert(new, head, head->next);
}

static inline void list_add_tail(struct list_head *new, struct list_head *head)
{
	list_insert(new, head->prev, head);
}

#define list_entry(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define list_first_entry_or_null(head, type, member) \
	((head)->next == (head) ? NULL : list_entry((head)->next, type, member))
#define list_for_each_entry(position, head, member)                                  \
	for (position = list_entry((head)->next, __typeof__(*position), member);     \
	     &position->member != (head);                                            \
	     position = list_entry(position->member.next, __typeof__(*position), member))

#endif
