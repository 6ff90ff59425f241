package tensorrt

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/toklip/toklip/trt/enginecache"
)

// file is the network's plan in a folder that Export writes.
func (n Network) file(dir string) string {
	return filepath.Join(dir, n.Role+"."+n.Precision+".plan")
}

// delivered looks into the folder of plans for one that this machine can run. That there is none, or one that does not fit, is
// no error: the log says why, and the cache is asked. The network then is what the plan was built for.
func (m *Machine) delivered(n Network) (Network, *enginecache.Plan) {
	if m.opts.Plans == "" {
		return n, nil
	}
	path := n.file(m.opts.Plans)
	plan, err := enginecache.LoadFile(path, func(k enginecache.Key) string { return unfit(k, n.Key, m.device.SM) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.log.Warn("the folder of plans has none for this network", "network", n.String(), "plan", path)
		return n, nil
	case err != nil:
		m.log.Warn("plan is not used", "network", n.String(), "because", err)
		return n, nil
	}
	n.Key, n.Plan = plan.Meta.Key, path
	return n, plan
}

// unfit says why a plan that was built for a key does not do where another one is wanted; empty if it does. How it was built is
// for whoever built it to decide, and a profile of batches may be wider than needed.
func unfit(k, wanted enginecache.Key, sm int) string {
	switch {
	case k.ONNX != wanted.ONNX || !slices.Equal(k.Weights, wanted.Weights) || k.Role != wanted.Role || k.Precision != wanted.Precision:
		return "it was built from another graph"
	case k.Family != wanted.Family || k.Version != wanted.Version:
		return fmt.Sprintf("it was built by %s %s, this is %s %s", k.Family, k.Version, wanted.Family, wanted.Version)
	case k.BatchMin > wanted.BatchMin || k.BatchMax < wanted.BatchMax:
		return fmt.Sprintf("it takes batches of %d to %d, wanted are %d to %d", k.BatchMin, k.BatchMax, wanted.BatchMin, wanted.BatchMax)
	case k.DLACore != wanted.DLACore:
		return fmt.Sprintf("it was built for DLA core %d, wanted is %d (-1: none)", k.DLACore, wanted.DLACore)
	case len(k.ComputeCapabilities) > 0:
		if !slices.Contains(k.ComputeCapabilities, sm) {
			return fmt.Sprintf("it was built for compute capabilities %v, this GPU has %d", k.ComputeCapabilities, sm)
		}
	case k.GPU != wanted.GPU || k.SM != wanted.SM:
		return fmt.Sprintf("it was built for %s, sm_%d, this is %s, sm_%d", k.GPU, k.SM, wanted.GPU, wanted.SM)
	}
	return ""
}
