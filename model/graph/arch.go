package graph

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/toklip/toklip/model/checkpoint"
)

// Prefixes of the tensors in a TokLIP checkpoint.
const (
	trunk    = "visual.trunk."
	trunkVQ  = trunk + "vq."
	textTree = "text."
)

// normEps is the epsilon of every norm, in the tokenizer and in the encoder.
const normEps = 1e-6

// sigLIPHeads are the published SigLIP widths and their attention heads (arXiv 2303.15343, table 1
// of arXiv 2305.13035 for the shape-optimised 1152).
var sigLIPHeads = map[int]int{768: 12, 1024: 16, 1152: 16, 1536: 16}

// Arch is the architecture of a checkpoint. It does not change after [Inspect].
type Arch struct {
	Size     int // S: edge of the image in pixels
	Grid     int // tokens along an edge; N = Grid*Grid
	Codebook int // entries
	CodeDim  int // length of an entry
	Groups   int // of GroupNorm

	Dim   int // D: width of the token encoder, of its features and of the embedding
	Depth int
	Heads int
	MLP   int // hidden width of a block's MLP

	Parameters  int64 // of the image tower
	TextTensors int   // tensors of the text tower
	// Text is the text tower's architecture; nil where there is none, or Config.NoText leaves it alone.
	Text       *TextArch
	LogitScale bool // logit_scale is there
	LogitBias  bool

	latent   int // channels between VQ encoder and quant_conv
	table    int // hidden width of the codebook's own MLP
	poolMLP  int
	vqPrefix string
	encoder  vqNet
	decoder  vqNet
	specs    []spec // every tensor of the image tower
}

// vqNet is one half of the VQ tokenizer.
type vqNet struct {
	prefix string
	edge   int // channels next to the image: out of the encoder's conv_in, into the decoder's conv_out
	inner  int // channels of mid
	levels []vqLevel
}

// vqLevel is one resolution of it.
type vqLevel struct {
	in, out int
	blocks  int
	attn    bool
	sample  bool // ends in a down- or upsampling convolution
}

// spec is a tensor that has to be there.
type spec struct {
	key   string
	shape []int64
}

// Tokens is the number of tokens of an image: N.
func (a *Arch) Tokens() int { return a.Grid * a.Grid }

// Tensors lists the names of the image tower's tensors, in the order of the networks. They are what the
// graphs are computed from.
func (a *Arch) Tensors() []string { return names(a.specs) }

func names(specs []spec) []string {
	keys := make([]string, len(specs))
	for i, s := range specs {
		keys[i] = s.key
	}
	return keys
}

// CodebookTensor is the name of the codebook's tensor.
func (a *Arch) CodebookTensor() string { return a.vqPrefix + "quantize.embedding.weight" }

// Inspect derives the architecture from the shapes of the tensors and checks them all. Errors name the
// tensor at fault, what was expected and what was found; several are joined.
func Inspect(r checkpoint.Reader, cfg Config) (*Arch, error) {
	cfg, err := cfg.complete(r)
	if err != nil {
		return nil, err
	}
	p := &prober{r: r}
	a := &Arch{Groups: cfg.NormGroups}
	if a.Groups == 0 {
		a.Groups = 32
	}
	a.vqPrefix = trunkVQ
	if !p.has(trunkVQ+"encoder.conv_in.weight") && p.has("encoder.conv_in.weight") {
		a.vqPrefix = ""
	}
	if !p.has(trunk + "pos_embed") {
		if p.has(a.vqPrefix + "quantize.embedding.weight") {
			return nil, errors.New("this is a VQ tokenizer alone: it can only make tokens and images; give the TokLIP checkpoint as well, " +
				"for example: toklip model import vq_ds16_t2i.pt TokLIP_S_256.pt --out DIR")
		}
		return nil, fmt.Errorf("this is no TokLIP checkpoint: tensor %q is missing (%d tensors found)", trunk+"pos_embed", len(r.Tensors()))
	}
	if !p.has(a.vqPrefix + "encoder.conv_in.weight") {
		return nil, fmt.Errorf("this TokLIP checkpoint has no VQ tokenizer: tensor %q is missing; give the VQ checkpoint as well",
			trunkVQ+"encoder.conv_in.weight")
	}

	a.probeTrunk(p)
	a.probeVQ(p)
	if p.err != nil {
		return nil, p.err
	}
	a.specs = a.list()
	if !cfg.NoText && hasText(r) {
		a.Text = probeText(p, a.Dim)
		if p.err != nil {
			return nil, fmt.Errorf("text tower: %w; %s", p.err, withoutText)
		}
	}
	if err := a.check(r); err != nil {
		return nil, err
	}
	if err := a.chooseHeads(cfg.Heads); err != nil {
		return nil, err
	}
	if a.Text != nil {
		if err := a.Text.chooseHeads(cfg.TextHeads, a); err != nil {
			return nil, err
		}
	}
	return a, a.checkGroups()
}

func (a *Arch) probeTrunk(p *prober) {
	pos := p.shape(trunk+"pos_embed", 3)
	n := pos[1]
	for a.Grid = 1; a.Grid*a.Grid < n; a.Grid++ {
	}
	if a.Grid*a.Grid != n {
		p.fail("tensor %q: %d positions are no square grid", trunk+"pos_embed", n)
	}
	a.Dim = pos[2]
	a.Depth = p.count(trunk + "blocks.")
	a.MLP = p.shape(trunk+"blocks.0.mlp.fc1.weight", 2)[0]
	a.poolMLP = p.shape(trunk+"attn_pool.mlp.fc1.weight", 2)[0]
	a.table = p.shape(trunk+"vq_table.weight", 2)[0]
}

func (a *Arch) probeVQ(p *prober) {
	v := a.vqPrefix
	book := p.shape(v+"quantize.embedding.weight", 2)
	a.Codebook, a.CodeDim = book[0], book[1]
	a.latent = p.shape(v+"quant_conv.weight", 4)[1]
	a.encoder = p.vq(v+"encoder.", "downsample")
	a.encoder.edge = p.shape(v+"encoder.conv_in.weight", 4)[0]
	a.encoder.inner = p.shape(v+"encoder.conv_out.weight", 4)[1]
	a.decoder = p.vq(v+"decoder.", "upsample")
	a.decoder.edge = p.shape(v+"decoder.conv_out.weight", 4)[1]
	a.decoder.inner = p.shape(v+"decoder.conv_in.weight", 4)[0]
	a.Size = a.Grid << (max(len(a.encoder.levels), 1) - 1)
	if len(a.decoder.levels) != len(a.encoder.levels) {
		p.fail("the VQ encoder has %d levels, the decoder %d", len(a.encoder.levels), len(a.decoder.levels))
	}
}

// chooseHeads takes the configured number of heads, else the one known for the width.
func (a *Arch) chooseHeads(configured int) error {
	a.Heads = configured
	if a.Heads == 0 {
		a.Heads = sigLIPHeads[a.Dim]
	}
	if a.Heads == 0 {
		return fmt.Errorf("the number of attention heads cannot be read off a checkpoint, and width %d is none of SigLIP's (768, 1024, 1152, 1536): "+
			`give it with --config F.json, {"heads": H}, or as "heads" in the metadata of a safetensors file`, a.Dim)
	}
	if a.Dim%a.Heads != 0 {
		return fmt.Errorf("%d heads do not divide the width %d of the token encoder", a.Heads, a.Dim)
	}
	return nil
}

// checkGroups makes sure that GroupNorm can split every width into its groups.
func (a *Arch) checkGroups() error {
	for _, n := range []vqNet{a.encoder, a.decoder} {
		for _, ch := range append(n.widths(), n.edge, n.inner) {
			if ch%a.Groups != 0 {
				return fmt.Errorf("tensor %q: %d channels cannot be normalised in %d groups (norm_groups)", n.prefix+"*", ch, a.Groups)
			}
		}
	}
	return nil
}

func (n vqNet) widths() []int {
	var w []int
	for _, l := range n.levels {
		w = append(w, l.in, l.out)
	}
	return w
}

// check compares the tensors that have to be there with those that are.
func (a *Arch) check(r checkpoint.Reader) error {
	want := map[string]bool{}
	var bad []error
	badText := false
	bad, a.Parameters = compare(r, a.specs, want)
	if a.Text != nil {
		var text []error
		text, a.Text.Parameters = compare(r, a.Text.specs, want)
		bad, badText = append(bad, text...), len(text) > 0
	}
	for _, info := range r.Tensors() {
		text := strings.HasPrefix(info.Name, textTree)
		if text {
			a.TextTensors++
		}
		switch {
		case want[info.Name], strings.HasSuffix(info.Name, "quantize.codebook_used"), text && a.Text == nil:
		case info.Name == "logit_scale", info.Name == "logit_bias":
			if info.Len() != 1 {
				bad = append(bad, fmt.Errorf("tensor %q has the wrong shape: expected [], found %v", info.Name, info.Shape))
			}
			a.LogitScale = a.LogitScale || info.Name == "logit_scale"
			a.LogitBias = a.LogitBias || info.Name == "logit_bias"
		default:
			bad = append(bad, fmt.Errorf("tensor %q is surplus: expected nothing of that name, found shape %v", info.Name, info.Shape))
			badText = badText || text
		}
	}
	const shown = 8
	if len(bad) > shown {
		rest := len(bad) - shown
		bad = append(bad[:shown], fmt.Errorf("and %d more", rest))
	}
	if badText {
		bad = append(bad, errors.New(withoutText))
	}
	return errors.Join(bad...)
}

// compare finds what is missing of specs or has another shape, marks them as wanted and counts the values there are.
func compare(r checkpoint.Reader, specs []spec, want map[string]bool) (bad []error, values int64) {
	for _, s := range specs {
		want[s.key] = true
		info, ok := r.Lookup(s.key)
		switch {
		case !ok:
			bad = append(bad, fmt.Errorf("tensor %q is missing: expected shape %v, found nothing", s.key, s.shape))
		case !equal(info.Shape, s.shape):
			bad = append(bad, fmt.Errorf("tensor %q has the wrong shape: expected %v, found %v", s.key, s.shape, info.Shape))
		default:
			values += info.Len()
		}
	}
	return bad, values
}

func equal(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// prober reads shapes and keeps the first mistake.
type prober struct {
	r   checkpoint.Reader
	err error
}

func (p *prober) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *prober) has(key string) bool {
	_, ok := p.r.Lookup(key)
	return ok
}

// shape returns the shape of a tensor that must have the given rank; all zero after a mistake.
func (p *prober) shape(key string, rank int) []int {
	out := make([]int, rank)
	info, ok := p.r.Lookup(key)
	if !ok {
		p.fail("tensor %q is missing: expected %d dimensions, found nothing", key, rank)
		return out
	}
	if len(info.Shape) != rank {
		p.fail("tensor %q has the wrong shape: expected %d dimensions, found %v", key, rank, info.Shape)
		return out
	}
	for i, d := range info.Shape {
		if d < 1 || d > 1<<24 {
			p.fail("tensor %q has an impossible shape: %v", key, info.Shape)
			return make([]int, rank)
		}
		out[i] = int(d)
	}
	return out
}

// count finds how many numbered parts follow the prefix: one more than the largest number, so that a gap
// shows up as missing tensors.
func (p *prober) count(prefix string) int {
	const most = 1024
	n := 0
	for _, info := range p.r.Tensors() {
		rest, ok := strings.CutPrefix(info.Name, prefix)
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ".")
		if i, err := strconv.Atoi(number); err == nil && i >= n {
			n = i + 1
		}
	}
	switch {
	case n == 0:
		p.fail("tensor %q is missing: expected at least one, found nothing", prefix+"0.*")
	case n > most:
		p.fail("tensor %q: more than %d blocks", fmt.Sprintf("%s%d.*", prefix, n-1), most)
		n = 0
	}
	return n
}

// vq reads the levels of one half of the tokenizer.
func (p *prober) vq(prefix, sample string) vqNet {
	n := vqNet{prefix: prefix}
	levels := p.count(prefix + "conv_blocks.")
	if levels > 16 {
		p.fail("tensor %q: %d levels are too many", prefix+"conv_blocks", levels)
		return n
	}
	for l := range levels {
		at := fmt.Sprintf("%sconv_blocks.%d.", prefix, l)
		n.levels = append(n.levels, vqLevel{
			in:     p.shape(at+"res.0.norm1.weight", 1)[0],
			out:    p.shape(at+"res.0.conv1.weight", 4)[0],
			blocks: p.count(at + "res."),
			attn:   p.has(at + "attn.0.norm.weight"),
			sample: p.has(at + sample + ".conv.weight"),
		})
		if last := l == levels-1; n.levels[l].sample == last {
			p.fail("tensor %q: every level but the last must end in it (level %d of %d)", at+sample+".conv.weight", l, levels)
		}
	}
	return n
}
