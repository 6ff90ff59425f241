// Package enginecache keeps compiled TensorRT plans in a folder.
//
// An entry is named by the hash of everything its plan depends on, its [Key]:
//
//	KEY.plan     the plan
//	KEY.json     what it is: the key's fields, size and SHA-256 of the plan, when and how it was built, a report
//	KEY.lock     locked by whoever builds it; says who that is
//	KEY.build/   what a builder is writing
//	timing-*.cache  TensorRT's timing caches, one for each library and GPU
//
// [Cache.Load] checks size, header and SHA-256 and maps the plan into memory, or says why it has to be
// built again: the error is an [*Unusable]. A builder goes like this:
//
//	lock, err := cache.Lock(ctx, key, nil) // waits for another builder of the same plan
//	defer lock.Close()                     // removes what is half-written
//	if plan, err := cache.Load(key); err == nil { ... }   // the other one has made it
//	err = build(lock.PlanPath())
//	meta, err := lock.Commit(enginecache.Build{...}) // hash, fsync, rename
//
// A plan that is carried to other machines lies outside the cache as NAME.plan, with NAME.json beside it: see [Describe] and
// [LoadFile].
//
// Locks are flock(2) locks: they end with their process, however it ends.
package enginecache
