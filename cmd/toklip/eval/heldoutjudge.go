package eval

import "fmt"

// LabelFigure is how well one label is told: AUROC of frames that show it against frames that do not.
type LabelFigure struct {
	Label     string  `json:"label"`
	AUROC     float64 `json:"auroc"`
	Positives int     `json:"positives"`
	Negatives int     `json:"negatives"`
}

// LabelFigures are those of many labels. Labels that are shown by too few frames, or by all, are left out.
type LabelFigures struct {
	Mean   float64       `json:"mean"`
	Lowest *LabelFigure  `json:"lowest"` // nil where none could be judged
	Labels []LabelFigure `json:"labels"`
}

func (f *LabelFigures) add(one LabelFigure) {
	f.Mean = (f.Mean*float64(len(f.Labels)) + one.AUROC) / float64(len(f.Labels)+1)
	f.Labels = append(f.Labels, one)
	if f.Lowest == nil || one.AUROC < f.Lowest.AUROC {
		f.Lowest = &one
	}
}

// HeldOutFigures are what a model reaches on held-out frames.
type HeldOutFigures struct {
	Classes LabelFigures `json:"classes"`
	Pairs   LabelFigures `json:"pairs"` // a class in a colour

	Captions   int     `json:"captions"`
	RecallAt10 float64 `json:"recall_at_10"` // share of captions that are true of one of their ten best frames

	// Class labels whose score reaches 0.5, all frames and classes together.
	PrecisionAtHalf float64 `json:"precision_at_half"`
	RecallAtHalf    float64 `json:"recall_at_half"`
}

// leastPositives is how many frames must show a pair for it to be judged.
const leastPositives = 3

// Judge compares embeddings with the truth: a row of frames for each frame, of labels for each of Labels, of captions for each
// caption. score makes a label's score of a cosine, as the model wants it.
func (h *HeldOut) Judge(frames, labels, captions *Vectors, score func(cosine float64) float64) (*HeldOutFigures, error) {
	all := h.Labels()
	if frames.Len() != len(h.Frames) || labels.Len() != len(all) || captions.Len() != len(h.Captions) {
		return nil, fmt.Errorf("judge: %d frames, %d labels, %d captions; the truth has %d, %d and %d",
			frames.Len(), labels.Len(), captions.Len(), len(h.Frames), len(all), len(h.Captions))
	}
	figures := &HeldOutFigures{Captions: len(h.Captions)}
	var hit, falseAlarm, missed int
	for i, label := range all {
		row := labels.Row(i)
		var cosines []float64
		var truth []bool
		one := LabelFigure{Label: label.String()}
		for f := range h.Frames {
			present, ok := h.Present(f, label)
			if !ok {
				continue
			}
			cosine := float64(dot(frames.Row(f), row))
			cosines, truth = append(cosines, cosine), append(truth, present)
			if present {
				one.Positives++
			} else {
				one.Negatives++
			}
			if label.Colour != "" {
				continue
			}
			switch told := score(cosine) >= 0.5; {
			case told && present:
				hit++
			case told:
				falseAlarm++
			case present:
				missed++
			}
		}
		area, ok := AUROC(cosines, truth)
		one.AUROC = area
		switch {
		case !ok:
		case label.Colour == "":
			figures.Classes.add(one)
		case one.Positives >= leastPositives:
			figures.Pairs.add(one)
		}
	}
	figures.PrecisionAtHalf, figures.RecallAtHalf = Share(hit, hit+falseAlarm), Share(hit, hit+missed)

	var best []int
	scores := make([]float32, len(h.Frames))
	for c, caption := range h.Captions {
		row := captions.Row(c)
		for f := range scores {
			scores[f] = dot(frames.Row(f), row)
		}
		rank := len(scores)
		for _, f := range caption.TrueOf {
			rank = min(rank, Rank(scores, f))
		}
		best = append(best, rank)
	}
	figures.RecallAt10 = Recall(best, 10)
	return figures, nil
}
