package main

import "syscall"

// lowPriority is what is added to a thread's nice value: one step leaves it four fifths of what a thread that wants the same core gets: enough for live lists within their 100 ms, with more a rebuild falls behind.
const lowPriority = 1

// runLast lowers the priority of the calling thread. Where the system refuses, the thread is like all others.
func runLast() {
	thread := syscall.Gettid()
	if now, err := syscall.Getpriority(syscall.PRIO_PROCESS, thread); err == nil {
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, thread, min(20-now+lowPriority, 19)) // the kernel answers 20 - nice
	}
}
