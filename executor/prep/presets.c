#include <stdio.h>
#include <string.h>

#include "executor/prep/internal.h"

/* What models were trained with, by name. Figures: the `transforms()` of torchvision's weights, CLIP's
 * preprocessor_config.json, finetuner/SPEC E.5. */

static const float imagenet[2][3] = {{0.485F, 0.456F, 0.406F}, {0.229F, 0.224F, 0.225F}};
static const float clip[2][3] = {{0.48145466F, 0.4578275F, 0.40821073F},
                                 {0.26862954F, 0.26130258F, 0.27577711F}};
static const float half[2][3] = {{0.5F, 0.5F, 0.5F}, {0.5F, 0.5F, 0.5F}};

static const struct preset {
    const char *name;
    int resize_to, size; /* short side, then crop; resize_to 0: straight to the size */
    enum ft_filter filter;
    const float (*mean_std)[3];
    const char *models;
} presets[] = {
    {"imagenet", 256, 224, FT_FILTER_BILINEAR, imagenet,
     "torchvision's first weights: ResNet, VGG, DenseNet, MobileNet, GoogLeNet, ViT-B, ..."},
    {"imagenet-v2", 232, 224, FT_FILTER_BILINEAR, imagenet,
     "its IMAGENET1K_V2 of ResNet, ResNeXt, Wide ResNet, RegNet, MobileNet; ConvNeXt base and large"},
    {"inception-v3", 342, 299, FT_FILTER_BILINEAR, imagenet, "Inception v3"},
    {"efficientnet-b0", 256, 224, FT_FILTER_BICUBIC, imagenet, "EfficientNet B0"},
    {"efficientnet-b1", 256, 240, FT_FILTER_BICUBIC, imagenet, "B1, first weights"},
    {"efficientnet-b2", 288, 288, FT_FILTER_BICUBIC, imagenet, "B2"},
    {"efficientnet-b3", 320, 300, FT_FILTER_BICUBIC, imagenet, "B3"},
    {"efficientnet-b4", 384, 380, FT_FILTER_BICUBIC, imagenet, "B4"},
    {"efficientnet-b5", 456, 456, FT_FILTER_BICUBIC, imagenet, "B5"},
    {"efficientnet-b6", 528, 528, FT_FILTER_BICUBIC, imagenet, "B6"},
    {"efficientnet-b7", 600, 600, FT_FILTER_BICUBIC, imagenet, "B7"},
    {"efficientnet-v2-s", 384, 384, FT_FILTER_BILINEAR, imagenet, "EfficientNet V2 S"},
    {"efficientnet-v2-m", 480, 480, FT_FILTER_BILINEAR, imagenet, "V2 M"},
    {"efficientnet-v2-l", 480, 480, FT_FILTER_BICUBIC, half, "V2 L"},
    {"convnext-tiny", 236, 224, FT_FILTER_BILINEAR, imagenet, "ConvNeXt tiny"},
    {"convnext-small", 230, 224, FT_FILTER_BILINEAR, imagenet, "ConvNeXt small"},
    {"vit-l-16", 242, 224, FT_FILTER_BILINEAR, imagenet, "ViT-L/16, first weights"},
    {"swin-t", 232, 224, FT_FILTER_BICUBIC, imagenet, "Swin tiny"},
    {"swin-s", 246, 224, FT_FILTER_BICUBIC, imagenet, "Swin small"},
    {"swin-b", 238, 224, FT_FILTER_BICUBIC, imagenet, "Swin base"},
    {"vit-augreg", 248, 224, FT_FILTER_BICUBIC, half, "timm's ViT of augreg weights: mean and std 0.5"},
    {"clip", 224, 224, FT_FILTER_BICUBIC, clip, "CLIP's image tower, OpenCLIP"},
    {"finetuner", 0, 224, FT_FILTER_BILINEAR, imagenet, "Finetuner's VisionPreprocess: straight to the size"},
};
enum { PRESETS = sizeof presets / sizeof *presets };

static enum ft_status unknown(struct ft_err *err)
{
    char all[600] = "";
    for (size_t i = 0; i < PRESETS; i++) {
        size_t n = strlen(all);
        (void)snprintf(all + n, sizeof all - n, "%s%s", i > 0 ? ", " : "", presets[i].name);
    }
    return FT_FAIL(err, INVALID, "preprocess option \"preset\" must be one of %s", all);
}

static enum ft_status apply(const struct preset *s, struct ft_prep *p, struct ft_err *err)
{
    if (p->kind != FT_PREP_IMAGE || (p->channels != 0 && p->channels != 3)) {
        return FT_FAIL(err, INVALID, "preprocess option \"preset\": \"%s\" is for colour images", s->name);
    }
    p->channels = 3;
    if (p->height == 0 || p->width == 0) { /* the model leaves it open */
        p->height = s->size;
        p->width = s->size;
    }
    int64_t shorter = p->height < p->width ? p->height : p->width;
    p->resize = s->resize_to > 0 ? FT_RESIZE_SHORT : FT_RESIZE_EXACT;
    p->resize_to = s->resize_to > 0 ? shorter * s->resize_to / s->size : 0;
    p->filter = s->filter;
    p->scale = 1.0F / 255.0F;
    for (int k = 0; k < 4; k++) {
        p->mean[k] = s->mean_std[0][k < 3 ? k : 2];
        p->std[k] = s->mean_std[1][k < 3 ? k : 2];
    }
    return FT_OK;
}

enum ft_status ft_prep_preset(const struct ft_json *name, struct ft_prep *prep, struct ft_err *err)
{
    const char *text = ft_json_text(name, NULL);
    if (name == NULL) {
        return FT_OK;
    }
    for (size_t i = 0; i < PRESETS && text != NULL; i++) {
        if (strcmp(text, presets[i].name) == 0) {
            return apply(&presets[i], prep, err);
        }
    }
    return unknown(err);
}

enum ft_status ft_prep_presets_help(struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_text(out,
                                    "Presets of --prep-options '{\"preset\": NAME}' (short side > crop, "
                                    "filter; in proportion for models "
                                    "of another size):\n",
                                    err));
    for (size_t i = 0; i < PRESETS; i++) {
        const struct preset *s = &presets[i];
        FT_RETURN_IF_FAILED(ft_buf_printf(
            out, err, "  %-18s %3d > %d %-8s  %s\n", s->name, s->resize_to > 0 ? s->resize_to : s->size,
            s->size, s->filter == FT_FILTER_BICUBIC ? "bicubic" : "bilinear", s->models));
    }
    return FT_OK;
}

const char *ft_prep_hint(const struct ft_prep *prep, bool said)
{
    enum {
        PHOTOGRAPH = 96
    }; /* pixels a side; below are digits, icons and CIFAR, which people scale by 255 */
    if (said || prep->kind != FT_PREP_IMAGE || prep->channels != 3 || prep->height < PHOTOGRAPH ||
        prep->width < PHOTOGRAPH) {
        return NULL;
    }
    for (int k = 0; k < 3; k++) {
        if (prep->mean[k] != 0.0F || prep->std[k] != 1.0F) {
            return NULL;
        }
    }
    return "mean is 0 and std 1; most models of photographs were trained with others: see the presets, e.g. "
           "--prep-options '{\"preset\": \"imagenet\"}'";
}
