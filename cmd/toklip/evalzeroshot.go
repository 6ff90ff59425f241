package main

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/eval"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/engine/labels"
)

// zeroShotReport is what `toklip eval zeroshot` finds.
type zeroShotReport struct {
	judged
	Templates int               `json:"templates"`
	Top1      float64           `json:"top1"` // share of pictures whose class has the best score
	Top5      float64           `json:"top5"` // … one of the five best
	Classes   []classAccuracies `json:"classes"`
}

type classAccuracies struct {
	Folder   string   `json:"folder"`
	Names    []string `json:"names"`
	Pictures int      `json:"pictures"`
	Top1     float64  `json:"top1"`
	Top5     float64  `json:"top5"`
}

func newZeroShotCommand() *cobra.Command {
	var flags evalFlags
	var classes, templates string
	var perClass int
	cmd := &cobra.Command{
		Use:   "zeroshot DIR --model M",
		Short: "Zero-shot accuracy on pictures in a folder a class",
		Long: `Classifies pictures by texts: DIR has a folder for each class with its PNG and JPEG files. The names of a class go through every template, the texts'
embeddings are normalised and averaged, and a picture belongs to the class whose vector has the highest cosine with its embedding. Printed is how often
that is the right class (top-1), and how often the right one is among the best five (top-5).

A file of --classes has a line a class, its folder, a tab or =>, and its names, separated by commas:

  n01440764<TAB>tench

Without it a class is named as its folder, underscores being spaces. A file of --templates has a line a template:

  a photo of a {}.

Pictures are read a few at a time and not kept: memory does not grow with their number. Equal scores count in the order of classes.
Published ImageNet figures of TokLIP (top-1 76.4 at 256 px, 80.0 at 384) were computed with OpenCLIP's class names and its 80 templates.`,
		Example: `  toklip eval zeroshot ILSVRC2012/val --model models/toklip-s-256 --classes imagenet.txt --templates openai80.txt --text-cache imagenet-texts
  toklip eval zeroshot pictures --model models/toklip-s-256
  toklip eval zeroshot ILSVRC2012/val --model models/toklip-s-256 --classes imagenet.txt --per-class 2 --json`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			if perClass < 0 {
				return usageError{fmt.Errorf("--per-class %d is negative: 0 takes every picture", perClass)}
			}
			return flags.run(cmd, func(j *judge) (_ verdict, err error) {
				prompts := labels.DefaultTemplates()
				if templates != "" {
					if prompts, err = readList("--templates", templates, eval.ReadTemplates); err != nil {
						return nil, err
					}
				}
				var named []eval.Class
				if classes != "" {
					if named, err = readList("--classes", classes, eval.ReadClasses); err != nil {
						return nil, err
					}
				}
				set, err := j.findClasses(dirs[0], named)
				if err != nil {
					return nil, err
				}
				set.thin(perClass)
				return j.zeroShot(cmd, set, prompts)
			})
		},
	}
	flags.add(cmd)
	flags.addPictures(cmd)
	cmd.Flags().StringVar(&classes, "classes", "", "`file` of folders and their class names; without, a class is named as its folder")
	cmd.Flags().StringVar(&templates, "templates", "", "`file` of prompts with {} for the name, a line each; without: "+strings.Join(labels.DefaultTemplates(), " | "))
	cmd.Flags().IntVar(&perClass, "per-class", 0, "take this `number` of pictures of each class at most, spread evenly over its files; 0: all")
	return cmd
}

// zeroShot embeds the classes and judges every picture.
func (j *judge) zeroShot(cmd *cobra.Command, set *classSet, templates []string) (*zeroShotReport, error) {
	prompts, texts := make([][]string, len(set.classes)), 0
	for i, class := range set.classes {
		prompts[i] = eval.Fill(templates, class.Names)
		texts += len(prompts[i])
	}
	var rows *eval.Vectors
	err := j.texts(texts, func(tower texttower.Embedder) (err error) {
		rows, err = j.ensembles(cmd.Context(), tower, prompts)
		return err
	})
	if err != nil {
		return nil, err
	}
	z := eval.NewZeroShot(rows)
	err = j.pictures(cmd.Context(), set.files, func(i int, seen *seenPicture) error {
		_, err := z.Add(set.class[i], seen.embedding)
		return err
	})
	if err != nil {
		return nil, err
	}
	report := &zeroShotReport{judged: j.finish(), Templates: len(templates)}
	total := z.Total()
	report.Top1, report.Top5 = eval.Share(total.Top1, total.Pictures), eval.Share(total.Top5, total.Pictures)
	for i, count := range z.Counts() {
		report.Classes = append(report.Classes, classAccuracies{
			Folder: set.classes[i].Folder, Names: set.classes[i].Names, Pictures: count.Pictures,
			Top1: eval.Share(count.Top1, count.Pictures), Top5: eval.Share(count.Top5, count.Pictures),
		})
	}
	return report, nil
}

// worstShown is how many classes are named that fare worst.
const worstShown = 5

func (r *zeroShotReport) print(out io.Writer) {
	r.judged.print(out, fmt.Sprintf("%s of %d classes, %s a name", plural(r.Pictures, "picture"), len(r.Classes), plural(r.Templates, "template")))
	for _, line := range []struct {
		name  string
		share float64
	}{{"top-1", r.Top1}, {"top-5", r.Top5}} {
		low, high := eval.Interval(int(line.share*float64(r.Pictures)+0.5), r.Pictures)
		fmt.Fprintf(out, "%s  %6.2f %%   %.2f to %.2f with 95 %% confidence\n", line.name, 100*line.share, 100*low, 100*high)
	}
	worst := slices.DeleteFunc(slices.Clone(r.Classes), func(c classAccuracies) bool { return c.Pictures == 0 })
	if len(worst) < 2 {
		return
	}
	slices.SortStableFunc(worst, func(a, b classAccuracies) int { return cmp.Compare(a.Top1, b.Top1) })
	fmt.Fprintln(out, "\nworst classes, top-1")
	for _, c := range worst[:min(worstShown, len(worst))] {
		fmt.Fprintf(out, "%7.2f %%  %s (%s), %s\n", 100*c.Top1, c.Folder, strings.Join(c.Names, ", "), plural(c.Pictures, "picture"))
	}
}

// classSet are classes and their pictures.
type classSet struct {
	classes []eval.Class
	files   []string
	class   []int // of each file
}

// thin keeps at most n pictures of each class, spread evenly over its files; 0 keeps all. Files of a class stand side by side.
func (s *classSet) thin(n int) {
	if n == 0 {
		return
	}
	var files []string
	var class []int
	for from := 0; from < len(s.files); {
		to := from
		for to < len(s.files) && s.class[to] == s.class[from] {
			to++
		}
		count := min(n, to-from)
		for k := range count {
			files, class = append(files, s.files[from+k*(to-from)/count]), append(class, s.class[from])
		}
		from = to
	}
	s.files, s.class = files, class
}

// findClasses lists the pictures of each class below dir. Without names every folder is a class.
func (j *judge) findClasses(dir string, named []eval.Class) (*classSet, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read pictures: %w", err)
	}
	var folders []string
	for _, entry := range entries {
		// A link to a folder counts as one.
		if info, err := os.Stat(filepath.Join(dir, entry.Name())); err == nil && info.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
			folders = append(folders, entry.Name())
		}
	}
	if len(folders) == 0 {
		return nil, fmt.Errorf("%s has no folders: a folder for each class is needed, with its pictures", dir)
	}
	set := &classSet{classes: named}
	if named == nil {
		for _, folder := range folders {
			set.classes = append(set.classes, eval.ClassOfFolder(folder))
		}
	}
	if len(set.classes) < 2 {
		return nil, fmt.Errorf("there is one class, %s: nothing to tell it from", set.classes[0].Folder)
	}
	var empty []string
	for i, class := range set.classes {
		before := len(set.files)
		if slices.Contains(folders, class.Folder) {
			if err := set.walk(filepath.Join(dir, class.Folder), i); err != nil {
				return nil, err
			}
		}
		if len(set.files) == before {
			empty = append(empty, class.Folder)
		}
	}
	if len(empty) == len(set.classes) {
		return nil, fmt.Errorf("no class of %s has a picture: PNG and JPEG files are looked for in folders such as %s", dir, filepath.Join(dir, set.classes[0].Folder))
	}
	if len(empty) > 0 {
		if err := j.amiss("%d of %d classes have no picture in %s; pictures may be taken for them all the same: %s", len(empty), len(set.classes), dir, some(empty)); err != nil {
			return nil, err
		}
	}
	strangers := slices.DeleteFunc(folders, func(folder string) bool {
		return slices.ContainsFunc(set.classes, func(c eval.Class) bool { return c.Folder == folder })
	})
	if len(strangers) > 0 {
		if err := j.amiss("%s of %s in no line of --classes, whose pictures are passed over: %s", plural(len(strangers), "folder"), dir, some(strangers)); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// walk adds the pictures below a class's folder, in the order of names.
func (s *classSet) walk(folder string, class int) error {
	// Without the separator WalkDir would not go into a link.
	return filepath.WalkDir(folder+string(filepath.Separator), func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read pictures: %w", err)
		}
		if ending := strings.ToLower(filepath.Ext(file)); !entry.IsDir() && (ending == ".png" || ending == ".jpg" || ending == ".jpeg") {
			s.files, s.class = append(s.files, file), append(s.class, class)
		}
		return nil
	})
}

// some names a few of a list.
func some(list []string) string {
	const most = 5
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
}
